"""What tests of Assay, and of adapters for it, are made of: fakes, a session, a fake server, contract suites."""
