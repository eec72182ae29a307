"""One module a command of `se-keras`: its parser and its call."""
