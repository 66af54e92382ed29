/**
 * A decision leaves the prompt, and the model finds it again.
 *
 * PK_ENDPOINT (`host:port`) and PK_TOKEN say where Pagekeeper is and who asks.
 */

import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import * as protoLoader from "@grpc/proto-loader";

import type { ProtoGrpcType } from "./generated/memory_service.js";
import type { AssemblePromptResponse__Output } from "./generated/pagekeeper/v1/AssemblePromptResponse.js";

const { PK_ENDPOINT = "", PK_TOKEN = "" } = process.env;
const SMALL_TALK = "The kettle is on, the rain has stopped, and the cat is asleep on the warm side of the keyboard. ".repeat(10);
const QUESTION = "Which database did we choose?";

const protos = protoLoader.loadSync(["pagekeeper/v1/memory_service.proto", "status.proto"], {
  includeDirs: ["../../../proto", ".."].map((folder) => fileURLToPath(new URL(folder, import.meta.url))),
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
  json: true, // opens google.protobuf.Any
});
const { MemoryService } = (grpc.loadPackageDefinition(protos) as unknown as ProtoGrpcType).pagekeeper.v1;

const authorize: grpc.Interceptor = (options, nextCall) =>
  new grpc.InterceptingCall(nextCall({ ...options, deadline: Date.now() + 30_000 }), {
    start(metadata, listener, next) {
      metadata.set("authorization", `Bearer ${PK_TOKEN}`);
      next(metadata, listener);
    },
  });
const memory = new MemoryService(PK_ENDPOINT, grpc.credentials.createInsecure(), { interceptors: [authorize] });

type Method<Q, A> = (request: Q, callback: (error: grpc.ServiceError | null, answer?: A) => void) => unknown;

function call<Q, A>(method: Method<Q, A>, request: Q): Promise<A> {
  return new Promise((resolve, reject) => {
    method.call(memory, request, (error, answer) => (error ? reject(error) : resolve(answer!)));
  });
}

// A requestId makes a retry safe: the same id with the same body is done once.
// The oldest pages leave first and the model alone brings them back, so that this short talk shows both.
const config = { maxL0Tokens: 16_000, evictionPolicy: "lru/1", demandPaging: "DEMAND_PAGING_MODEL" } as const;
const { session } = await call(memory.openSession, { requestId: randomUUID(), config });
const sessionId = session!.sessionId;
const { pages } = await call(memory.appendPages, {
  requestId: randomUUID(),
  sessionId,
  pages: [{ role: "MESSAGE_ROLE_USER", text: "We decided to use PostgreSQL, because the ledger needs transactions." }],
});
const decision = pages[0].pageId;

let minRevision = "0"; // Reads are at least as new as this: whatever replica answers, we see what we wrote.
for (let turn = 0; turn < 30; turn++) {
  const appended = await call(memory.appendPages, {
    requestId: randomUUID(),
    sessionId,
    pages: [
      { role: "MESSAGE_ROLE_USER", text: SMALL_TALK },
      { role: "MESSAGE_ROLE_ASSISTANT", text: SMALL_TALK },
    ],
  });
  minRevision = appended.revision;
}

// Send prompt.messages and prompt.toolsJson to the model.
show(await call(memory.assemblePrompt, { sessionId, userInput: QUESTION, minRevision }));

// A model that sees no answer in its prompt asks for one, in its provider's format. Hand each answer back to it.
const found = await toolCall("1", "search_pages", { query: "decided database PostgreSQL" });
await toolCall("2", "page_fault", { page_id: found.results[0].page_id, target_level: 0 });

show(await call(memory.assemblePrompt, { sessionId, userInput: QUESTION, minRevision }));

await call(memory.getPage, { sessionId, pageId: "no-such-page" }).catch((error: grpc.ServiceError) => {
  const [details] = error.metadata.get("grpc-status-details-bin");
  const status = protos["google.rpc.Status"] as protoLoader.MessageTypeDefinition<object, { details: ErrorInfo[] }>;
  const [{ reason, metadata }] = status.deserialize(details as Buffer).details;
  console.log("refused", reason, metadata);
});
memory.close();

interface ErrorInfo {
  reason: string;
  domain: string;
  metadata: Record<string, string>;
}

async function toolCall(id: string, name: string, callArguments: object) {
  const calls = [{ id, name, argumentsJson: JSON.stringify(callArguments) }];
  const request = { requestId: randomUUID(), sessionId, calls, minRevision };
  const { messages, revision } = await call(memory.handleToolCalls, request);
  console.log(name, messages[0].content);
  minRevision = revision;
  return JSON.parse(messages[0].content);
}

function show({ pages, tokens }: AssemblePromptResponse__Output) {
  const page = pages.find(({ pageId }) => pageId === decision);
  const where = page ? `at level ${page.level}` : "not in it";
  const { total, budget, rules, context, manifest, tools, input } = tokens!;
  console.log(
    `prompt ${total} of ${budget} tokens: rules ${rules}, context ${context}, manifest ${manifest}, tools ${tools}, ` +
      `input ${input}; the decision is ${where}`,
  );
}
