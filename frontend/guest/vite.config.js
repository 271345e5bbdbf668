/** Builds the page into dist/: index.html, sw.js, and hashed files in _/. */

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { defineConfig } from "vite";

const root = import.meta.dirname;
const output = resolve(root, "dist");

/** Adds the hash of each script and style sheet to the page, so that a browser takes no other. */
function integrity() {
  return {
    name: "integrity",
    apply: "build",
    closeBundle() {
      const file = resolve(output, "index.html");
      const page = readFileSync(file, "utf8").replace(/<(script|link rel="stylesheet")([^>]*) (src|href)="\.\/(_\/[^"]+)"/g, (tag, name, before, attribute, path) => {
        const hash = createHash("sha384").update(readFileSync(resolve(output, path))).digest("base64");
        return `<${name}${before} integrity="sha384-${hash}" ${attribute}="./${path}"`;
      });
      writeFileSync(file, page);
    },
  };
}

export default defineConfig({
  root,
  base: "./",
  publicDir: false,
  plugins: [integrity()],
  build: {
    outDir: output,
    assetsDir: "_",
    assetsInlineLimit: 0,
    target: "es2022",
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { guest: resolve(root, "index.html"), sw: resolve(root, "worker/sw.ts") },
      output: {
        // Its folder is what it may serve, so it lies beside the rooms.
        entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "_/[name]-[hash].js"),
        chunkFileNames: "_/[name]-[hash].js",
        assetFileNames: "_/[name]-[hash][extname]",
      },
    },
  },
});
