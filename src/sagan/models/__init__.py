"""The generators that come with the package, each with its model card: ``pretrained:NAME``."""
