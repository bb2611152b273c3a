"""SGLang in this project: the only package that imports sglang or torch."""
