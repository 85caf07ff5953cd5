/** Files that were dropped or chosen, folders walked through. */

const RECORDING =
  /\.(3gp|aac|ac3|aif|aiff|amr|ape|asf|au|avi|caf|dts|flac|flv|m2ts|m4a|m4b|m4v|mka|mkv|mov|mp2|mp3|mp4|mpeg|mpg|mts|oga|ogg|ogv|opus|ra|rm|spx|ts|vob|voc|wav|weba|webm|wma|wmv|wv)$/i;

export interface Chosen {
  files: File[];
  /** Files in folders that are no recordings by their names. */
  skipped: number;
}

const isRecording = ({ name, type }: File): boolean =>
  !name.startsWith(".") && (RECORDING.test(name) || type.startsWith("audio/") || type.startsWith("video/"));

/** What was dropped. Files are taken as they are; of folders, what is a recording by its name. */
export async function fromDrop(transfer: DataTransfer): Promise<Chosen> {
  // the transfer is emptied as soon as its event is over
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  if (entries.length === 0) return { files: [...transfer.files], skipped: 0 };
  const all = await Promise.all(entries.map((entry) => (entry.isFile ? ofFile(entry) : ofFolder(entry))));
  return { files: all.flatMap(({ files }) => files), skipped: all.reduce((sum, { skipped }) => sum + skipped, 0) };
}

/** What an input gave; `folder` says whether it was one. */
export function fromInput(list: FileList, folder: boolean): Chosen {
  const files = [...list].filter((file) => !folder || isRecording(file));
  return { files, skipped: list.length - files.length };
}

async function ofFile(entry: FileSystemEntry): Promise<Chosen> {
  const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
  return { files: [file], skipped: 0 };
}

async function ofFolder(entry: FileSystemEntry): Promise<Chosen> {
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Chosen = { files: [], skipped: 0 };
  for (;;) {
    // a hundred at a time
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return found;
    for (const child of entries) {
      const { files, skipped } = child.isFile ? await ofFile(child) : await ofFolder(child);
      const recordings = files.filter((file) => !child.isFile || isRecording(file));
      found.files.push(...recordings);
      found.skipped += skipped + files.length - recordings.length;
    }
  }
}
