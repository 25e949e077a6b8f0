"""A chat stream of the legacy library; prints its text and the number of its chunks."""
import json
import os

import openai

openai.api_type = "azure"
openai.api_base = os.environ["GATEWAY_BASE"]
openai.api_version = "2023-03-15-preview"
openai.api_key = os.environ["GATEWAY_KEY"]
chunks = list(openai.ChatCompletion.create(
    engine="gpt-4o-mini", stream=True, messages=[{"role": "user", "content": os.environ["PROMPT"]}]))
text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
print(json.dumps({"text": text, "chunks": len(chunks)}))
