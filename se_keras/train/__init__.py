"""Training SE networks on images: data sources, the run and its resuming, prediction."""

from se_keras.support.errors import InputError
from se_keras.train.classify import predict
from se_keras.train.cluster import Cluster
from se_keras.train.config import TrainConfig
from se_keras.train.run import train

__all__ = ["Cluster", "InputError", "TrainConfig", "predict", "train"]
