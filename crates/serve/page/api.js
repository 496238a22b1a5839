// The gateway's own API, with the key that was given.

import { $, parted } from "./dom.js";

export const PLAIN = "plain";
export const CHAT = "/v1/chat/completions";

export function headers(extra = {}) {
  const key = sessionStorage.getItem("key");
  return key ? { ...extra, authorization: `Bearer ${key}` } : extra;
}

// A refusal: what is wrong, and what to try, apart.
export class ApiError extends Error {
  constructor(message, status) {
    const [what, ...hints] = parted(message);
    super(what);
    this.hints = hints;
    this.status = status;
  }
}

export async function checked(response) {
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message || message;
  } catch {
    // The status alone has to do.
  }
  const error = new ApiError(message, response.status);
  if (response.status === 401) {
    $("key-form").hidden = false;
    $("key-wrong").textContent = sessionStorage.getItem("key") ? "This gateway does not know that key." : "";
  }
  throw error;
}

export async function get(path) {
  return (await checked(await fetch(path, { headers: headers() }))).json();
}

export const getTrace = (id) => get(`/v1/traces/${encodeURIComponent(id)}`);

export async function post(path, body, signal) {
  const request = {
    method: "POST", headers: headers({ "content-type": "application/json" }), body: JSON.stringify(body), signal,
  };
  return checked(await fetch(path, request));
}

export async function* lines(response) {
  const decoder = new TextDecoder();
  let rest = "";
  const reader = response.body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const parts = rest.split(/\r?\n/);
    rest = parts.pop();
    yield* parts;
    if (done) return;
  }
}
