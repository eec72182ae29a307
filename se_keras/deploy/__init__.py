"""Export models to inference engines, and compare the files with the Keras model."""
