"""How results read for people, where more than one command shows them."""
