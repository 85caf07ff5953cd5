// Sends a file with tus-js-client: ENDPOINT FILE PARALLEL CHUNK. Says how much is sent, then the upload's URL.
const fs = require('node:fs')
const tus = require('tus-js-client')

const [endpoint, file, parallel, chunk] = process.argv.slice(2)
const upload = new tus.Upload(fs.createReadStream(file), {
  endpoint,
  parallelUploads: +parallel,
  chunkSize: +chunk || Infinity,
  retryDelays: Array(100).fill(200),
  metadata: { filename: 'a.wav' },
  onProgress: (sent) => console.log(JSON.stringify({ sent })),
  onError: (error) => {
    console.log(JSON.stringify({ error: String(error) }))
    process.exit(1)
  },
  onSuccess: () => console.log(JSON.stringify({ url: upload.url })),
})
upload.start()
