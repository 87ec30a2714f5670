"""Workloads: what a guest does. One file each; `common.workload.registry` lists them."""
