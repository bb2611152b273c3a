"""Inside SGLang's scheduler process: the policy's plans become SGLang's batches."""
