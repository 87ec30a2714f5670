"""Which workloads there are, and what their options mean, known without compiling anything."""
