"""The FPGA board: messages, driver, simulated firmware; the byte-level document is docs/board-protocol.md."""
