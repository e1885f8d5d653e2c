"""Studies of the paper: YAML files, and the code that plans, executes and reports them."""
