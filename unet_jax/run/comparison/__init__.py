"""The parts of mode `compare`: it reads run folders, and compares what they hold."""
