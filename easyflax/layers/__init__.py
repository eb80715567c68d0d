"""Layers in Keras's manner: NNX modules that make their weights when the shape of their input is known."""

from easyflax.layers.activations import ELU as ELU
from easyflax.layers.activations import Activation as Activation
from easyflax.layers.activations import LeakyReLU as LeakyReLU
from easyflax.layers.activations import PReLU as PReLU
from easyflax.layers.activations import ReLU as ReLU
from easyflax.layers.activations import Softmax as Softmax
from easyflax.layers.adaptive_pooling import AdaptiveAveragePooling1D as AdaptiveAveragePooling1D
from easyflax.layers.adaptive_pooling import AdaptiveAveragePooling2D as AdaptiveAveragePooling2D
from easyflax.layers.adaptive_pooling import AdaptiveAveragePooling3D as AdaptiveAveragePooling3D
from easyflax.layers.adaptive_pooling import AdaptiveMaxPooling1D as AdaptiveMaxPooling1D
from easyflax.layers.adaptive_pooling import AdaptiveMaxPooling2D as AdaptiveMaxPooling2D
from easyflax.layers.adaptive_pooling import AdaptiveMaxPooling3D as AdaptiveMaxPooling3D
from easyflax.layers.attention import AdditiveAttention as AdditiveAttention
from easyflax.layers.attention import Attention as Attention
from easyflax.layers.batch_normalization import BatchNormalization as BatchNormalization
from easyflax.layers.bidirectional import Bidirectional as Bidirectional
from easyflax.layers.category_encoding import CategoryEncoding as CategoryEncoding
from easyflax.layers.conv import Conv1D as Conv1D
from easyflax.layers.conv import Conv2D as Conv2D
from easyflax.layers.conv import Conv3D as Conv3D
from easyflax.layers.conv import Convolution1D as Convolution1D
from easyflax.layers.conv import Convolution2D as Convolution2D
from easyflax.layers.conv import Convolution3D as Convolution3D
from easyflax.layers.conv_lstm import ConvLSTM1D as ConvLSTM1D
from easyflax.layers.conv_lstm import ConvLSTM2D as ConvLSTM2D
from easyflax.layers.conv_lstm import ConvLSTM3D as ConvLSTM3D
from easyflax.layers.conv_transpose import Conv1DTranspose as Conv1DTranspose
from easyflax.layers.conv_transpose import Conv2DTranspose as Conv2DTranspose
from easyflax.layers.conv_transpose import Conv3DTranspose as Conv3DTranspose
from easyflax.layers.conv_transpose import Convolution1DTranspose as Convolution1DTranspose
from easyflax.layers.conv_transpose import Convolution2DTranspose as Convolution2DTranspose
from easyflax.layers.conv_transpose import Convolution3DTranspose as Convolution3DTranspose
from easyflax.layers.core import ActivityRegularization as ActivityRegularization
from easyflax.layers.core import Identity as Identity
from easyflax.layers.core import Lambda as Lambda
from easyflax.layers.core import Masking as Masking
from easyflax.layers.dense import Dense as Dense
from easyflax.layers.depthwise_conv import DepthwiseConv1D as DepthwiseConv1D
from easyflax.layers.depthwise_conv import DepthwiseConv2D as DepthwiseConv2D
from easyflax.layers.depthwise_conv import SeparableConv1D as SeparableConv1D
from easyflax.layers.depthwise_conv import SeparableConv2D as SeparableConv2D
from easyflax.layers.depthwise_conv import SeparableConvolution1D as SeparableConvolution1D
from easyflax.layers.depthwise_conv import SeparableConvolution2D as SeparableConvolution2D
from easyflax.layers.discretization import Discretization as Discretization
from easyflax.layers.dropout import Dropout as Dropout
from easyflax.layers.dropout import SpatialDropout1D as SpatialDropout1D
from easyflax.layers.dropout import SpatialDropout2D as SpatialDropout2D
from easyflax.layers.dropout import SpatialDropout3D as SpatialDropout3D
from easyflax.layers.einsum_dense import EinsumDense as EinsumDense
from easyflax.layers.embedding import Embedding as Embedding
from easyflax.layers.feature_normalization import Normalization as Normalization
from easyflax.layers.global_pooling import GlobalAveragePooling1D as GlobalAveragePooling1D
from easyflax.layers.global_pooling import GlobalAveragePooling2D as GlobalAveragePooling2D
from easyflax.layers.global_pooling import GlobalAveragePooling3D as GlobalAveragePooling3D
from easyflax.layers.global_pooling import GlobalAvgPool1D as GlobalAvgPool1D
from easyflax.layers.global_pooling import GlobalAvgPool2D as GlobalAvgPool2D
from easyflax.layers.global_pooling import GlobalAvgPool3D as GlobalAvgPool3D
from easyflax.layers.global_pooling import GlobalMaxPool1D as GlobalMaxPool1D
from easyflax.layers.global_pooling import GlobalMaxPool2D as GlobalMaxPool2D
from easyflax.layers.global_pooling import GlobalMaxPool3D as GlobalMaxPool3D
from easyflax.layers.global_pooling import GlobalMaxPooling1D as GlobalMaxPooling1D
from easyflax.layers.global_pooling import GlobalMaxPooling2D as GlobalMaxPooling2D
from easyflax.layers.global_pooling import GlobalMaxPooling3D as GlobalMaxPooling3D
from easyflax.layers.group_normalization import GroupNormalization as GroupNormalization
from easyflax.layers.grouped_query_attention import GroupedQueryAttention as GroupedQueryAttention
from easyflax.layers.grouped_query_attention import GroupQueryAttention as GroupQueryAttention
from easyflax.layers.gru import GRU as GRU
from easyflax.layers.gru import GRUCell as GRUCell
from easyflax.layers.histogram import AutoContrast as AutoContrast
from easyflax.layers.histogram import Equalization as Equalization
from easyflax.layers.input_layer import InputLayer as InputLayer
from easyflax.layers.input_spec import InputSpec as InputSpec
from easyflax.layers.layer import Layer as Layer
from easyflax.layers.loss_term import LossTerm as LossTerm
from easyflax.layers.lstm import LSTM as LSTM
from easyflax.layers.lstm import LSTMCell as LSTMCell
from easyflax.layers.merging import Add as Add
from easyflax.layers.merging import Average as Average
from easyflax.layers.merging import Concatenate as Concatenate
from easyflax.layers.merging import Dot as Dot
from easyflax.layers.merging import Maximum as Maximum
from easyflax.layers.merging import Minimum as Minimum
from easyflax.layers.merging import Multiply as Multiply
from easyflax.layers.merging import Subtract as Subtract
from easyflax.layers.merging import add as add
from easyflax.layers.merging import average as average
from easyflax.layers.merging import concatenate as concatenate
from easyflax.layers.merging import dot as dot
from easyflax.layers.merging import maximum as maximum
from easyflax.layers.merging import minimum as minimum
from easyflax.layers.merging import multiply as multiply
from easyflax.layers.merging import subtract as subtract
from easyflax.layers.metric_term import MetricTerm as MetricTerm
from easyflax.layers.multi_head_attention import MultiHeadAttention as MultiHeadAttention
from easyflax.layers.noise import AlphaDropout as AlphaDropout
from easyflax.layers.noise import GaussianDropout as GaussianDropout
from easyflax.layers.noise import GaussianNoise as GaussianNoise
from easyflax.layers.normalization import LayerNormalization as LayerNormalization
from easyflax.layers.normalization import RMSNormalization as RMSNormalization
from easyflax.layers.normalization import UnitNormalization as UnitNormalization
from easyflax.layers.padding import Cropping1D as Cropping1D
from easyflax.layers.padding import Cropping2D as Cropping2D
from easyflax.layers.padding import Cropping3D as Cropping3D
from easyflax.layers.padding import ZeroPadding1D as ZeroPadding1D
from easyflax.layers.padding import ZeroPadding2D as ZeroPadding2D
from easyflax.layers.padding import ZeroPadding3D as ZeroPadding3D
from easyflax.layers.pooling import AveragePooling1D as AveragePooling1D
from easyflax.layers.pooling import AveragePooling2D as AveragePooling2D
from easyflax.layers.pooling import AveragePooling3D as AveragePooling3D
from easyflax.layers.pooling import AvgPool1D as AvgPool1D
from easyflax.layers.pooling import AvgPool2D as AvgPool2D
from easyflax.layers.pooling import AvgPool3D as AvgPool3D
from easyflax.layers.pooling import MaxPool1D as MaxPool1D
from easyflax.layers.pooling import MaxPool2D as MaxPool2D
from easyflax.layers.pooling import MaxPool3D as MaxPool3D
from easyflax.layers.pooling import MaxPooling1D as MaxPooling1D
from easyflax.layers.pooling import MaxPooling2D as MaxPooling2D
from easyflax.layers.pooling import MaxPooling3D as MaxPooling3D
from easyflax.layers.random_color import RandomBrightness as RandomBrightness
from easyflax.layers.random_color import RandomColorDegeneration as RandomColorDegeneration
from easyflax.layers.random_color import RandomColorJitter as RandomColorJitter
from easyflax.layers.random_color import RandomContrast as RandomContrast
from easyflax.layers.random_color import RandomGrayscale as RandomGrayscale
from easyflax.layers.random_color import RandomHue as RandomHue
from easyflax.layers.random_color import RandomSaturation as RandomSaturation
from easyflax.layers.random_distortion import RandomElasticTransform as RandomElasticTransform
from easyflax.layers.random_distortion import RandomPerspective as RandomPerspective
from easyflax.layers.random_geometry import RandomCrop as RandomCrop
from easyflax.layers.random_geometry import RandomFlip as RandomFlip
from easyflax.layers.random_geometry import RandomRotation as RandomRotation
from easyflax.layers.random_geometry import RandomShear as RandomShear
from easyflax.layers.random_geometry import RandomTranslation as RandomTranslation
from easyflax.layers.random_geometry import RandomZoom as RandomZoom
from easyflax.layers.random_policies import RandAugment as RandAugment
from easyflax.layers.random_regions import CutMix as CutMix
from easyflax.layers.random_regions import MixUp as MixUp
from easyflax.layers.random_regions import RandomErasing as RandomErasing
from easyflax.layers.random_regions import RandomGaussianBlur as RandomGaussianBlur
from easyflax.layers.random_tone import RandomInvert as RandomInvert
from easyflax.layers.random_tone import RandomPosterization as RandomPosterization
from easyflax.layers.random_tone import RandomSharpness as RandomSharpness
from easyflax.layers.random_tone import Solarization as Solarization
from easyflax.layers.registry import deserialize as deserialize
from easyflax.layers.registry import serialize as serialize
from easyflax.layers.rescaling import Rescaling as Rescaling
from easyflax.layers.reshaping import Flatten as Flatten
from easyflax.layers.reshaping import Permute as Permute
from easyflax.layers.reshaping import RepeatVector as RepeatVector
from easyflax.layers.reshaping import Reshape as Reshape
from easyflax.layers.resizing import CenterCrop as CenterCrop
from easyflax.layers.resizing import Resizing as Resizing
from easyflax.layers.rnn import RNN as RNN
from easyflax.layers.simple_rnn import SimpleRNN as SimpleRNN
from easyflax.layers.simple_rnn import SimpleRNNCell as SimpleRNNCell
from easyflax.layers.spectral_normalization import SpectralNormalization as SpectralNormalization
from easyflax.layers.stacked_cells import StackedRNNCells as StackedRNNCells
from easyflax.layers.symbolic import Input as Input
from easyflax.layers.time_distributed import TimeDistributed as TimeDistributed
from easyflax.layers.upsampling import UpSampling1D as UpSampling1D
from easyflax.layers.upsampling import UpSampling2D as UpSampling2D
from easyflax.layers.upsampling import UpSampling3D as UpSampling3D
from easyflax.layers.wrapper import Wrapper as Wrapper

__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "ActivityRegularization",
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "Add",
    "AdditiveAttention",
    "AlphaDropout",
    "Attention",
    "AutoContrast",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNormalization",
    "Bidirectional",
    "CategoryEncoding",
    "CenterCrop",
    "Concatenate",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "Convolution3D",
    "Convolution3DTranspose",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "CutMix",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Discretization",
    "Dot",
    "Dropout",
    "EinsumDense",
    "Embedding",
    "Equalization",
    "Flatten",
    "GRUCell",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GroupNormalization",
    "GroupQueryAttention",
    "GroupedQueryAttention",
    "Identity",
    "Input",
    "InputLayer",
    "InputSpec",
    "LSTMCell",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "LossTerm",
    "Masking",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "Maximum",
    "MetricTerm",
    "Minimum",
    "MixUp",
    "MultiHeadAttention",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "RMSNormalization",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomCrop",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "Resizing",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
    "SimpleRNN",
    "SimpleRNNCell",
    "Softmax",
    "Solarization",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "SpectralNormalization",
    "StackedRNNCells",
    "Subtract",
    "TimeDistributed",
    "UnitNormalization",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "Wrapper",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
    "add",
    "average",
    "concatenate",
    "deserialize",
    "dot",
    "maximum",
    "minimum",
    "multiply",
    "serialize",
    "subtract",
]
