// Service worker: keeps the page's files for use without a network, and lets its pages load nothing else.

const VERSION = '@VERSION@';
const FILES = '@FILES@'.split(' ');
const CACHE = `maeum-${VERSION}`;
const SCOPE = new URL('./', self.location);
const OWN = new Set(FILES.map(name => new URL(name, SCOPE).href));

self.addEventListener('install', event => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(CACHE);
      // The browser's own cache may hold files of another version.
      await cache.addAll([...OWN].map(url => new Request(url, { cache: 'reload' })));
      await self.skipWaiting();
    })(),
  );
});

self.addEventListener('activate', event => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name.startsWith('maeum-') && name !== CACHE) await caches.delete(name);
      await self.clients.claim();
    })(),
  );
});

self.addEventListener('fetch', event => {
  const url = new URL(event.request.url);
  const file = url.origin + url.pathname.replace(/index\.html$/, '');
  event.respondWith(
    (async () => {
      if (!OWN.has(file) || event.request.method !== 'GET') return Response.error();
      const kept = await (await caches.open(CACHE)).match(file);
      return kept ?? fetch(event.request);
    })(),
  );
});
