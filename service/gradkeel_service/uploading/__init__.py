"""How resumable uploads arrive: the protocol, the pieces, and the file that they become."""
