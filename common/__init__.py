"""What both agents share: the guest, the wire, the strategies, the report."""

__version__ = "0.1.0"
