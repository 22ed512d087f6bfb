import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // a page for each entry; the second is README's
  build: { rollupOptions: { input: ["index.html", "readme.html"] } },
});
