"""What netsvc costs, beside its peers. Each module is a command."""
