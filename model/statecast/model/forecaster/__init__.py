"""The forecaster: inputs, recurrent layers and quantile head as one streaming model."""
