import { expect, test } from "vitest";
import { readLink } from "../src/link.js";

const SECRET = "AAECAwQFBgcICQoLDA0ODw";

test("a link has server, slug and secret", () => {
  const link = readLink(`https://signal.example/r/baku-timo-rosa-lufi#${SECRET}`);
  expect(link?.server.href).toBe("https://signal.example/");
  expect(link?.slug).toBe("baku-timo-rosa-lufi");
  expect(Array.from(link!.secret)).toEqual(Array.from({ length: 16 }, (_, index) => index));
});

test("a server may be below a path", () => {
  expect(readLink(`https://signal.example/a/r/b/r/baku-timo-rosa-lufi#${SECRET}`)?.server.href).toBe("https://signal.example/a/r/b/");
});

test("a spoken code has no secret", () => {
  expect(readLink("https://signal.example/r/baku%20timo%20rosa%20lufi")?.secret).toHaveLength(0);
});

test.each([
  "",
  "no address",
  "https://signal.example/",
  "https://signal.example/r/",
  "https://signal.example/r/baku/file",
  "https://signal.example/r/%ff",
  "https://signal.example/r/baku-timo-rosa-lufi#AAECAwQFBgcICQoLDA0ODw==",
  "https://signal.example/r/baku-timo-rosa-lufi#AAECAwQFBgcICQoLDA0O",
  "https://signal.example/r/baku-timo-rosa-lufi#AAECAwQFBgcICQoLDA0OD+",
])("%j is no link", (address) => {
  expect(readLink(address)).toBeNull();
});
