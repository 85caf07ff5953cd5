// Reads a job's events as a browser does: URL. Says each one's type and id, and ends once it is told not to reconnect.
import { EventSource } from 'eventsource'

const types = ['job.queued', 'job.started', 'job.progress', 'job.completed']
const source = new EventSource(process.argv[2])
for (const type of types) {
  source.addEventListener(type, (event) => console.log(JSON.stringify({ type, id: +event.lastEventId })))
}
source.onerror = () => {
  const closed = source.readyState === EventSource.CLOSED
  console.log(JSON.stringify({ closed }))
  if (closed) process.exit(0)
}
