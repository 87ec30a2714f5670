"""Workloads: what a guest does. One file each; `registry` lists them."""
