"""One module a command of `se-keras`: its parser and its call.

Each has `add_parser`, which `se_keras.cli` calls at every start. So at the top a module imports
nothing that loads Keras; what does, the call imports after it has checked its arguments.
"""
