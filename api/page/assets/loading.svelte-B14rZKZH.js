<<<<<<<< HEAD:api/page/assets/loading.svelte-DHN6PHpK.js
import{St as e,bt as t,rt as n}from"./Page-CxzcFsmQ.js";var r=class{#e=e(null);get data(){return n(this.#e)}set data(e){t(this.#e,e)}#t=e(null);get error(){return n(this.#t)}set error(e){t(this.#t,e)}#n;#r=0;constructor(e){this.#n=e,this.load()}load=async()=>{let e=++this.#r;try{let t=await this.#n();if(e!==this.#r)return;this.data=t,this.error=null}catch(t){e===this.#r&&(this.error=t)}}};export{r as t};
========
import{St as e,bt as t,rt as n}from"./Page-CrDStZW8.js";var r=class{#e=e(null);get data(){return n(this.#e)}set data(e){t(this.#e,e)}#t=e(null);get error(){return n(this.#t)}set error(e){t(this.#t,e)}#n;#r=0;constructor(e){this.#n=e,this.load()}load=async()=>{let e=++this.#r;try{let t=await this.#n();if(e!==this.#r)return;this.data=t,this.error=null}catch(t){e===this.#r&&(this.error=t)}}};export{r as t};
>>>>>>>> work-tune:api/page/assets/loading.svelte-B14rZKZH.js
