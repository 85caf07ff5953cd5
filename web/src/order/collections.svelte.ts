/** The collections, as the server had them last: several parts of the page show them. */
import { api, unwrap, type components } from "../api/index.svelte.js";

export type Collection = components["schemas"]["CollectionView"];

let known = $state.raw<readonly Collection[]>([]);

export const collections = (): readonly Collection[] => known;

export async function loadCollections(): Promise<void> {
  known = (await unwrap(api.GET("/v1/collections"))).data;
}

export async function make(name: string): Promise<Collection> {
  return await unwrap(api.POST("/v1/collections", { body: { name } }));
}

export async function forget(id: string): Promise<void> {
  await unwrap(api.DELETE("/v1/collections/{collection_id}", { params: { path: { collection_id: id } } }));
  await loadCollections();
}
