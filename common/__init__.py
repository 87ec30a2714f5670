"""What both agents share: the guest, the wire, the strategies, the report."""
