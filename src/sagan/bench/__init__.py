"""What things cost on this machine: counted beforehand, and measured."""
