"""What the kernel is told about the gate's sockets: the seal's programs, as instructions, and where its cgroup lies."""
