"""The `lab` fixture, and the timeline of a test that has failed."""
