// Every call of the openai library for Node that the gateway promises to carry, through
// AzureOpenAI (classic paths) and OpenAI (v1 paths). Prints a JSON object:
// call -> {text, completion_tokens, chunks}.
import OpenAI, { AzureOpenAI, NotFoundError } from "openai";

const { GATEWAY_BASE: base, GATEWAY_KEY: apiKey, PROMPT: prompt } = process.env;
const [chat, instruct, embed] = ["gpt-4o-mini", "modelname", "text-embedding-3-small"];
const messages = [{ role: "user", content: prompt }];

const requests = {
  chat: (c, more) => c.chat.completions.create({ model: chat, messages, ...more }),
  completions: (c, more) => c.completions.create({ model: instruct, prompt, ...more }),
  responses: (c, more) => c.responses.create({ model: chat, input: prompt, ...more }),
};

const delta = {
  chat: (c) => c.choices[0]?.delta?.content ?? "",
  completions: (c) => c.choices[0]?.text ?? "",
  responses: (c) => (c.type === "response.output_text.delta" ? c.delta : ""),
};

const whole = {
  chat: (a) => ({ text: a.choices[0].message.content, completion_tokens: a.usage.completion_tokens }),
  completions: (a) => ({ text: a.choices[0].text, completion_tokens: a.usage.completion_tokens }),
  responses: (a) => ({ text: a.output_text, completion_tokens: a.usage.output_tokens }),
};

async function streamed(kind, stream) {
  const result = { text: "", chunks: 0 };
  for await (const c of stream) {
    result.text += delta[kind](c);
    result.chunks++;
    const usage = c.usage ?? c.response?.usage;
    if (usage) result.completion_tokens = usage.completion_tokens ?? usage.output_tokens;
  }
  return result;
}

async function suite(name, client, out) {
  for (const [kind, request] of Object.entries(requests)) {
    out[`${name} ${kind}`] = whole[kind](await request(client));
    out[`${name} ${kind} stream`] = await streamed(kind, await request(client, { stream: true }));
  }
  const asked = await requests.chat(client, { stream: true, stream_options: { include_usage: true } });
  out[`${name} chat stream usage`] = await streamed("chat", asked);
  const embedding = await client.embeddings.create({ model: embed, input: prompt });
  out[`${name} embeddings`] = { dimensions: embedding.data[0].embedding.length, tokens: embedding.usage.total_tokens };
  try {
    await client.chat.completions.create({ model: "no-such-model", messages });
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    out[`${name} unknown`] = { status: error.status, code: error.code };
  }
}

const results = {};
await suite("azure", new AzureOpenAI({ endpoint: base, apiKey, apiVersion: "2025-03-01-preview", maxRetries: 0 }), results);
await suite("v1", new OpenAI({ baseURL: `${base}/openai/v1/`, apiKey, maxRetries: 0 }), results);
console.log(JSON.stringify(results));
