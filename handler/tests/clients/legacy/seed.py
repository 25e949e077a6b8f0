"""The legacy snippet, word for word but for base and key; prints the answer as JSON."""
import json
import os

import openai
openai.api_type = "azure"
openai.api_base = os.environ["GATEWAY_BASE"]
openai.api_version = "2023-03-15-preview"
openai.api_key = os.environ["GATEWAY_KEY"]
response = openai.Completion.create(engine="modelname", prompt="prompt text", temperature=1, max_tokens=200,
                                    top_p=0.5, frequency_penalty=0, presence_penalty=0, stop=None)
print(json.dumps(response))
