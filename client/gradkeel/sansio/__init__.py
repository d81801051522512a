"""The SDK's logic without any I/O.

An operation is written once, as a generator (a *flow*) that yields commands (``commands.py``) and is
sent their outcome.
``gradkeel.client`` drives the same flows over a blocking and over an asyncio transport.
"""
