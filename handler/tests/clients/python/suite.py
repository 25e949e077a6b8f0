"""Every call of the openai library that the gateway promises to carry, synchronous and
asynchronous, through AzureOpenAI (classic paths) and OpenAI (v1 paths). Prints a JSON
object: call -> {text, completion_tokens, chunks}."""
import asyncio
import json
import os

from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, NotFoundError, OpenAI

BASE, KEY, PROMPT = os.environ["GATEWAY_BASE"], os.environ["GATEWAY_KEY"], os.environ["PROMPT"]
CHAT, INSTRUCT, EMBED = "gpt-4o-mini", "modelname", "text-embedding-3-small"
MESSAGES = [{"role": "user", "content": PROMPT}]
AZURE = {"azure_endpoint": BASE, "api_key": KEY, "api_version": "2025-03-01-preview", "max_retries": 0}
PLAIN = {"base_url": BASE + "/openai/v1/", "api_key": KEY, "max_retries": 0}

REQUESTS = {
    "chat": lambda c, **more: c.chat.completions.create(model=CHAT, messages=MESSAGES, **more),
    "completions": lambda c, **more: c.completions.create(model=INSTRUCT, prompt=PROMPT, **more),
    "responses": lambda c, **more: c.responses.create(model=CHAT, input=PROMPT, **more),
}


def delta(kind, chunk):
    if kind == "responses":
        return chunk.delta if chunk.type == "response.output_text.delta" else ""
    if not chunk.choices:
        return ""
    return (chunk.choices[0].delta.content if kind == "chat" else chunk.choices[0].text) or ""


def whole(kind, answer):
    if kind == "responses":
        return {"text": answer.output_text, "completion_tokens": answer.usage.output_tokens}
    text = answer.choices[0].message.content if kind == "chat" else answer.choices[0].text
    return {"text": text, "completion_tokens": answer.usage.completion_tokens}


def streamed(kind, chunks):
    result = {"text": "".join(delta(kind, c) for c in chunks), "chunks": len(chunks)}
    if kind == "responses":
        result["completion_tokens"] = chunks[-1].response.usage.output_tokens
    elif chunks[-1].usage:
        result["completion_tokens"] = chunks[-1].usage.completion_tokens
    return result


def sync(name, client, out):
    for kind, request in REQUESTS.items():
        out[f"{name} {kind}"] = whole(kind, request(client))
        out[f"{name} {kind} stream"] = streamed(kind, list(request(client, stream=True)))
    asked = REQUESTS["chat"](client, stream=True, stream_options={"include_usage": True})
    out[f"{name} chat stream usage"] = streamed("chat", list(asked))
    embedding = client.embeddings.create(model=EMBED, input=PROMPT)
    out[f"{name} embeddings"] = {"dimensions": len(embedding.data[0].embedding), "tokens": embedding.usage.total_tokens}
    try:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    except NotFoundError as error:
        out[f"{name} unknown"] = {"status": error.status_code, "code": error.code}


async def asynchronous(name, client, out):
    for kind, request in REQUESTS.items():
        out[f"{name} {kind}"] = whole(kind, await request(client))
        out[f"{name} {kind} stream"] = streamed(kind, [c async for c in await request(client, stream=True)])
    embedding = await client.embeddings.create(model=EMBED, input=PROMPT)
    out[f"{name} embeddings"] = {"dimensions": len(embedding.data[0].embedding), "tokens": embedding.usage.total_tokens}
    await client.close()


async def both(out):
    await asynchronous("async azure", AsyncAzureOpenAI(**AZURE), out)
    await asynchronous("async v1", AsyncOpenAI(**PLAIN), out)


results = {}
sync("azure", AzureOpenAI(**AZURE), results)
sync("v1", OpenAI(**PLAIN), results)
asyncio.run(both(results))
print(json.dumps(results))
