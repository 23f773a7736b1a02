"""The live path: sources, prepare, mailboxes, the runner, sinks."""
