"""Everything that touches the kernel: TUN, UDP, netlink, sockets, the event loop."""
