/** Have the browser keep something as a file. */
export function saveAs(content: Blob, filename: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = filename;
  link.click();
  // once the browser has begun to read it
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
