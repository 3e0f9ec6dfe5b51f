// Requests to the server's own API.

const KEY = "flatcoat-api-key";

export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, { body, signal } = {}) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the server does not answer");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer.error?.message ?? response.statusText);
  return answer;
}

export async function listIndexes() {
  return (await request("/indexes")).indexes;
}

export function search(index, body, signal) {
  return request(`/indexes/${encodeURIComponent(index)}/search`, { body, signal });
}

export function addDocument(index, document) {
  return request(`/indexes/${encodeURIComponent(index)}/documents`, { body: { documents: [document] } });
}
