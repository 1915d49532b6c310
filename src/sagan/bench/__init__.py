"""What runs cost on this machine: counted in advance, and measured."""
