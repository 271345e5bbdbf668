import { expect, test } from "vitest";
import { type Source, answerHead, disposition } from "../src/bridge.js";

const FILM: Source = {
  name: "Film.mp4",
  type: "video/mp4",
  size: 1000,
  isDownload: false,
  content: () => {
    throw new Error("not read here");
  },
};

test("a film is answered in ranges", () => {
  const { status, headers, range } = answerHead(FILM, "bytes=100-");
  expect(status).toBe(206);
  expect(headers).toMatchObject({ "Content-Type": "video/mp4", "Content-Range": "bytes 100-999/1000", "Content-Length": "900" });
  expect(range).toEqual({ start: 100, stop: 1000 });
});

test("a range behind the end is not answered", () => {
  expect(answerHead(FILM, "bytes=1000-")).toMatchObject({ status: 416, range: null, headers: { "Content-Range": "bytes */1000" } });
});

test("a download is saved whole, whatever range is asked for", () => {
  const { status, headers, range } = answerHead({ ...FILM, isDownload: true }, "bytes=100-");
  expect(status).toBe(200);
  expect(headers["Content-Disposition"]).toBe(`attachment; filename="Film.mp4"; filename*=UTF-8''Film.mp4`);
  expect(range).toEqual({ start: 0, stop: 1000 });
});

test("no file can act as a page of the server", () => {
  expect(answerHead(FILM, null).headers).toMatchObject({
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
  });
});

test("what has no address any more is not found", () => {
  expect(answerHead(null, null)).toEqual({ status: 404, headers: {}, range: null });
});

test("names are saved as they are, and cannot add to the header", () => {
  expect(disposition("Größe (1)\".mp4\r\nX: y")).toBe(
    `attachment; filename="Gr__e (1)_.mp4__X: y"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%281%29%22.mp4%0D%0AX%3A%20y`,
  );
});
