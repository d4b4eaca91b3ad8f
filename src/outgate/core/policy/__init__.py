"""What is allowed: rules, the lists of an app, the decision, and what a lint says of them."""
