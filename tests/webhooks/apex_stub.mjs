// Runs the Apex of docs/webhooks.md: rewrites the little of the language it uses into JavaScript, with stand-ins for
// the platform's classes. Reads the Apex from standard input; PORTAL_BASE_URL, SF_WEBHOOK_SECRET, ORDER_ID as elsewhere.
import { execFileSync } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";

const Blob = { valueOf: (text) => Buffer.from(text, "utf8") };
const Crypto = {
  generateAesKey: (bits) => randomBytes(bits / 8),
  generateMac(algorithm, data, key) {
    if (algorithm !== "HmacSHA256") throw new Error(`no such algorithm: ${algorithm}`);
    return createHmac("sha256", key).update(data).digest();
  },
};
const EncodingUtil = { convertToHex: (blob) => blob.toString("hex") };
const ApexJSON = { serialize: (value) => JSON.stringify(value) };
const UserInfo = { getName: () => "Ada Lovelace" };
const System = {
  debug: (text) => console.log(text),
  now: () => ({
    formatGmt(pattern) {
      if (pattern !== "yyyy-MM-dd'T'HH:mm:ss'Z'") throw new Error(`unknown pattern: ${pattern}`);
      return new Date().toISOString().replace(/\.\d+Z$/, "Z");
    },
  }),
};
class HttpRequest {
  headers = [];
  setEndpoint(address) { this.url = address.replace("callout:Portal_BFF", process.env.PORTAL_BASE_URL); }
  setMethod(method) { this.method = method; }
  setHeader(name, value) { this.headers.push(`${name}: ${value}`); }
  setBody(body) { this.body = body; }
  setTimeout(milliseconds) { this.seconds = milliseconds / 1000; }
}
class Http {
  send(request) {
    const words = ["--silent", "--show-error", "--max-time", String(request.seconds), "-X", request.method,
      "--write-out", "\n%{http_code}", "--data-binary", "@-", ...request.headers.flatMap((line) => ["-H", line])];
    const told = execFileSync("curl", [...words, request.url], { input: request.body }).toString();
    const at = told.lastIndexOf("\n");
    return { getStatusCode: () => Number(told.slice(at + 1)), getBody: () => told.slice(0, at) };
  }
}

const apex = readFileSync(0, "utf8");
const script = apex
  .replace(/new Map<String, Object>\{([^}]*)\}/g, (_, pairs) => `{${pairs.replaceAll("=>", ":")}}`)
  .replace(/^(String|Blob|HttpRequest|HttpResponse) (?=[a-z])/gm, "let ");
new Function(
  "Blob", "Crypto", "EncodingUtil", "JSON", "UserInfo", "System", "HttpRequest", "Http", "orderId", "secret", "clickId",
  `"use strict";\n${script}`,
)(
  Blob, Crypto, EncodingUtil, ApexJSON, UserInfo, System, HttpRequest, Http,
  process.env.ORDER_ID, process.env.SF_WEBHOOK_SECRET, `click-${randomBytes(8).toString("hex")}`,
);
