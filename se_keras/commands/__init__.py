"""One module for each command of `se-keras`: its parser and its function.

`se_keras.cli` calls `add_parser` of every module at each start. So a module imports nothing at the
top that loads Keras; its function imports Keras after it has checked the arguments.
"""
