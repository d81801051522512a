"""One module per collection of the REST API: its documents, its flows, its blocking and asyncio faces."""
