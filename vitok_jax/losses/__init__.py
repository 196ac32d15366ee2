"""Pure functions that training minimises."""
