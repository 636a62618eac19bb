"""What every layer uses: threads, timers, sockets, buffers."""
