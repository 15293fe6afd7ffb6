"""What is measured: each suite draws pictures that no training stage drew, and asks the model as a user would."""
