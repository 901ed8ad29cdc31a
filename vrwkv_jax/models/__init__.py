"""The models: U-Net, autoencoder, text encoder, tokenizer. They need jax, flax, einops, numpy and safetensors alone."""
