const isLoopback = (host: string): boolean => host === "localhost" || host === "[::1]" || host.startsWith("127.");

/** Where live sessions are: where the server says, or where the page itself is.
 *
 * An address of the server's own machine is of no use to a page that came from elsewhere, through a proxy.
 */
export function liveUrl(told: string | null, page: URL): string {
  const here = page.origin.replace(/^http/, "ws");
  const useful = told !== null && (!isLoopback(new URL(told).hostname) || isLoopback(page.hostname));
  return `${(useful ? told : here).replace(/\/$/, "")}/ws/stream`;
}
