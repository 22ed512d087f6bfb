/**
 * Stands for the official client's storage, a ninth of its size, which no page uses: files of
 * messages go through the functions.
 */
export class StorageClient {}
export class StorageApiError extends Error {}
